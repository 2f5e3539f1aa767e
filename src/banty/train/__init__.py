"""The training loops. Learners, policies and tasksets are handed in; nothing here imports torch."""
