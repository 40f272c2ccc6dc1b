"""One file from the Maven registry, in a process of its own.

The library that speaks to the registry takes no TLS context, so trusting what the machine trusts
(a company's proxy included) means to change TLS of the whole process: of this one alone.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(repository: str, group: str, name: str, version: str, packaging: str) -> None:
    """Print where the file lies now; ends with the reason on stderr where it cannot be had."""
    import truststore
    from jgo.maven import MavenContext

    truststore.inject_into_ssl()
    try:
        project = MavenContext(repo_cache=Path(repository), timeout=60).project(group, name)
        print(project.at_version(version).artifact(packaging=packaging).resolve())
    except Exception as error:  # jgo raises RuntimeError, requests' and OS errors
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
