"""Compose files; installed as ``splade_os.docker`` so that ``splade-os cluster`` finds them."""
