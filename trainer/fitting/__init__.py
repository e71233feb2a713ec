"""From a label set to a run folder.

fit.py           the loop
settings.py      everything that decides a fit
task.py          label set to references, scale, validation samples
step.py          one gradient step, in pieces that fit
loss.py          its terms by name
feature_loss.py  terms of the baselines
compiled.py      gradients as machine code
state.py         what a resumed fit needs
ranks.py         several processes that fit one student
run_folder.py    settings.json and log.csv
loggers.py       log.csv to TensorBoard and wandb, too
interrupt.py     Ctrl-C at the end of a step
allocator.py     memory kept between steps
"""
