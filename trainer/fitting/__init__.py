"""From a label set to a run folder.

fit.py               the loop
settings.py          everything that decides a fit
statistics.py        the training split before the first step, kept in the run
data.py              the training split as a stream of steps
step.py              one gradient step, in pieces that fit
loss.py              its terms by name
feature_loss.py      terms of the baselines
gradients.py         how they are computed
compiled.py          gradients as machine code
tracing.py           a step as one graph for all sizes
step_cache.py        compiled steps on disk
validation.py        errors while fitting
rows.py              what steps and validations say, and the log's columns
state.py             what a resumed fit needs
warm.py              a fit that goes on from another student
ranks.py             several processes that fit one student
run_folder.py        settings.json, log.csv and the lock
report.py            remarks, progress, how long it will take
loggers.py           log.csv to TensorBoard and wandb, too
interrupt.py         Ctrl-C at the end of a step
process_settings.py  CPU time, memory and precision of this process
"""
