"""Learning rates of transformers' schedulers, step by step: python make_schedules.py > schedules.json"""
import json
import torch
import transformers
from transformers import get_scheduler

CASES = [
    ("constant", {}, 5, 20),
    ("constant_with_warmup", {}, 5, 20),
    ("linear", {}, 0, 20),
    ("linear", {}, 5, 20),
    ("cosine", {}, 3, 25),
    ("cosine", {"num_cycles": 1.25}, 3, 25),
    ("cosine_with_restarts", {}, 3, 25),
    ("cosine_with_restarts", {"num_cycles": 3}, 2, 25),
    ("cosine_with_min_lr", {"min_lr": 1e-5}, 4, 24),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.75}, 0, 24),
    ("polynomial", {}, 4, 24),
    ("polynomial", {"lr_end": 2e-5, "power": 2.0}, 0, 24),
    ("inverse_sqrt", {}, 4, 24),
    ("inverse_sqrt", {}, 0, 24),
    ("inverse_sqrt", {"timescale": 10}, 4, 24),
    ("warmup_stable_decay", {"num_decay_steps": 6}, 4, 24),
    ("warmup_stable_decay", {"num_decay_steps": 8, "decay_type": "linear", "warmup_type": "cosine", "min_lr_ratio": 0.1}, 5, 24),
    ("warmup_stable_decay", {"num_decay_steps": 8, "decay_type": "1-sqrt", "warmup_type": "1-sqrt"}, 5, 24),
    ("warmup_stable_decay", {"num_decay_steps": 6, "num_stable_steps": 5, "num_cycles": 1.0, "min_lr_ratio": 0.2}, 3, 24),
]

PEAK = 1e-4
cases = []
for name, kwargs, warmup, total in CASES:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    given = dict(kwargs)
    steps = None if "num_stable_steps" in kwargs else total
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps, scheduler_specific_kwargs=given)
    rates = []
    for _ in range(total + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    cases.append({"name": name, "kwargs": kwargs, "warmup": warmup, "total": total, "rates": rates})
print(json.dumps({"transformers": transformers.__version__, "peak": PEAK, "cases": cases}, indent=1))
