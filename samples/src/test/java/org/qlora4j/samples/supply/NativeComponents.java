package org.qlora4j.samples.supply;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Map;
import java.util.TreeMap;
import org.qlora4j.bindings.NativePackage;

/** The packages that are fetched when the program runs, as components of a CycloneDX bill of materials. */
final class NativeComponents {
    private NativeComponents() {}

    /** The packages by their names without version. */
    static Map<String, NativePackage> names() {
        Map<String, NativePackage> names = new TreeMap<>();
        for (NativePackage wanted : NativePackage.values()) {
            names.put(
                    wanted.packageUrl()
                            .replaceFirst("^pkg:[a-z]+/", "")
                            .replaceFirst("@.*", "")
                            .replace('/', ':'),
                    wanted);
        }
        return names;
    }

    /** Adds them as what the module bindings depends on. */
    static void addTo(ObjectNode bom) {
        ArrayNode components = (ArrayNode) bom.path("components");
        ArrayNode fetched = null;
        for (var dependency : bom.path("dependencies")) {
            if (dependency.path("ref").asText().startsWith("pkg:maven/org.qlora4j/bindings@")) {
                fetched = ((ObjectNode) dependency).withArray("dependsOn");
            }
        }
        if (fetched == null) {
            throw new IllegalStateException("the bill of materials has no dependencies of org.qlora4j:bindings");
        }
        for (var entry : names().entrySet()) {
            components.add(component(components.objectNode(), entry.getKey(), entry.getValue()));
            fetched.add(entry.getValue().packageUrl());
        }
    }

    private static ObjectNode component(ObjectNode component, String name, NativePackage wanted) {
        String url = wanted.packageUrl();
        component.put("type", wanted == NativePackage.SMOLLM2 ? "machine-learning-model" : "library");
        component.put("bom-ref", url);
        component.put("name", name);
        component.put("version", url.replaceFirst(".*@", "").replaceFirst("\\?.*", ""));
        component.put("description", "fetched when it is first needed: " + wanted.fileName());
        component.put(
                "scope",
                wanted == NativePackage.BITSANDBYTES || wanted == NativePackage.ONEDNN ? "required" : "optional");
        component.putArray("hashes").addObject().put("alg", "SHA-256").put("content", wanted.sha256());
        component.putArray("licenses").addObject().put("expression", wanted.license());
        component.put("purl", url);
        ArrayNode files = component.putArray("components");
        for (String file : wanted.fileNames()) {
            files.addObject()
                    .put("type", "file")
                    .put("bom-ref", url + "#" + file)
                    .put("name", file);
        }
        return component;
    }
}
