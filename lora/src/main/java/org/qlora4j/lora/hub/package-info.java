/** Models and data sets by their ids on a hub: caches on this machine, and downloads. */
package org.qlora4j.lora.hub;
