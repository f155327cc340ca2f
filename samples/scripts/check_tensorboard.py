"""Has the real TensorBoard read a run's event files and compares them with logging.jsonl.

pip install tensorboard; python samples/scripts/check_tensorboard.py output/v0-…
"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
events = EventAccumulator(str(run / "runs"))
events.Reload()
wanted = {}
for line in (run / "logging.jsonl").read_text().splitlines():
    entry = json.loads(line)
    step = int(entry["global_step/max_steps"].split("/")[0])
    for key, value in entry.items():
        if isinstance(value, (int, float)):
            tag = "eval/" + key[5:] if key.startswith("eval_") else "train/" + key
            wanted.setdefault(tag, []).append((step, value))
found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
assert found.keys() == wanted.keys(), f"tags {sorted(found)}, expected {sorted(wanted)}"
for tag, values in wanted.items():
    assert len(values) == len(found[tag]), f"{tag}: {len(found[tag])} values, expected {len(values)}"
    for (step, value), (found_step, found_value) in zip(values, found[tag]):
        assert step == found_step and abs(value - found_value) <= 1e-6 * abs(value), (tag, step, value, found_value)
    print(f"{tag}: {len(values)} values")
print("TensorBoard reads what logging.jsonl says")
