package org.qlora4j.lora.text.jinja;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** What keys(), values() and items() of a dict give: can be walked and counted but not subscripted. */
record DictView(DictValue dict, Kind kind) {
    enum Kind {
        KEYS,
        VALUES,
        ITEMS
    }

    String typeName() {
        return switch (kind) {
            case KEYS -> "dict_keys";
            case VALUES -> "dict_values";
            case ITEMS -> "dict_items";
        };
    }

    List<Object> items() {
        List<Object> items = new ArrayList<>(dict.size());
        for (Map.Entry<Object, Object> entry : dict.entries()) {
            items.add(
                    switch (kind) {
                        case KEYS -> entry.getKey();
                        case VALUES -> entry.getValue();
                        case ITEMS -> TupleValue.of(entry.getKey(), entry.getValue());
                    });
        }
        return items;
    }
}
