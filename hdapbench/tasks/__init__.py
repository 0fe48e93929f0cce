"""Tasks: how a network is trained and scored.

task: what a task defines: loss, distance to a teacher, scores.
classification: cross-entropy and top-1 accuracy.
detection: ultralytics' loss and mean average precision.
average_precision: from detections and true boxes.
open: the task that a spec names.
training: the training loop, one for every task.
regularizer: what may change the gradients of a step.
stepper: one step of it, and all that steps change.
checkpoint: long trainings, kept while they last.
device: where networks are trained and evaluated.
dry_run: one batch through a network, before it is trained.
layout: the order in which images lie in memory.
schedule: learning rates.
average: moving average of weights.
base: the dense model, trained once or loaded.
teacher: the network that a base model learns from.
recalibrate: batch norm statistics after pruning.
"""
