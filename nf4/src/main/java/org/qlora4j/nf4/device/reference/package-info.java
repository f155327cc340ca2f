/**
 * The definition of every operation in plain loops and double precision, against which other devices and all gradients
 * are tested. It knows no other device, no vectors and no native library.
 */
package org.qlora4j.nf4.device.reference;
