"""``python -m hdapbench``: the command line where its script is not on the path."""

from hdapbench.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
