"""The figures of tables, one file each: a function of the file's name, what it needs, its caption and its message.

docs/extending.md has an example. `table` is laid out, as `whysgd.study.papers.tables_at` has it, with `colours`, of its
runs. `frames` has the runs of the table's rows, and of those that their gaps start from, under "runs", and a frame for
each of `NEEDS`, whose names are those of `whysgd.study.figures`. `message` returns the title, a finding made of the
numbers (where they decide nothing, it says so), and the numbers in words; `whysgd.report.draw` adds on what was
measured. NEEDS and CAPTION are literals: the workflow reads them without importing the file. Files whose names begin
with _ hold what several figures share.
"""
