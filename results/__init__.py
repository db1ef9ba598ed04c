"""What a learner gets out of it: policies against every yardstick, in the same SUMO; docs/results.md."""
