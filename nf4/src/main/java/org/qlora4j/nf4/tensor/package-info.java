/** Element types, matrices and trained parameters: values without maths. */
package org.qlora4j.nf4.tensor;
