"""``python -m splade_os``."""

from splade_os.cli import main

main()
