/**
 * Raw C calls: finding and opening libraries, checked functions on raw addresses, and the packages the libraries come
 * in. The only place of restricted FFM calls. It may not know what a tensor is.
 */
package org.qlora4j.bindings;
