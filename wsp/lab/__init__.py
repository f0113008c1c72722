"""What the chapters import: data, networks, training, arms, rivals, statistics, figures."""
