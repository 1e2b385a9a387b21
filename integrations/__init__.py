"""Adapters and reporters for foreign packages, one file or folder each, named after it."""

if __name__ != "shiftwatch.integrations":
    raise ImportError(
        "This folder is the package shiftwatch.integrations; import it under that name. "
        f"Here it was found as {__name__!r}: take its parent folder off sys.path."
    )
