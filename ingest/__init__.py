"""Sources → records → batches → vectors → bulk bodies → outcomes → report."""
