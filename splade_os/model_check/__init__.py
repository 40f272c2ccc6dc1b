"""What works with a model, tried out: `check_model`."""
