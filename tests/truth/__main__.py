"""Write docs/truth_table.md anew: ``python -m tests.truth``, from the root of a checkout."""

from tests.truth.table import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
print(f"wrote {PAGE}")
