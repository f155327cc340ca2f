/** The command line. */
package org.qlora4j.samples;
