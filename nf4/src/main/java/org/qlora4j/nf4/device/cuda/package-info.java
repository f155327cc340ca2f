/**
 * NVIDIA GPUs: frozen weights through libbitsandbytes, products through cuBLAS, everything else in kernels of our own
 * ({@code *.cu} among the resources), which NVRTC compiles for the card at hand.
 */
package org.qlora4j.nf4.device.cuda;
