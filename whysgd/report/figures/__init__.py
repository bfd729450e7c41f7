"""The figures of tables, one file each: a function of the file's name, what it needs, its caption and its message.

    NEEDS = ("histories",)
    CAPTION = "Loss of every row over epochs."

    def curves(table, frames):
        figure, axis = plt.subplots(figsize=(NARROW, 3))
        ...
        return figure

    def message(table, frames):
        return "The loss of SGD ends lowest, at 0.12", "SGD 0.12; FB 0.31"

`table` is laid out, as `whysgd.study.papers.tables_at` has it, with `colours`, of its runs. `frames` has the runs of
the table's rows, and of those that their gaps start from, under "runs", and a frame for each of `NEEDS`, whose names
are those of `whysgd.study.figures`. `message` returns the title, a finding made of the numbers (where they decide
nothing, it says so), and the numbers in words; `whysgd.report.draw` adds on what was measured. NEEDS and CAPTION are
literals: the workflow reads them without importing the file. Files whose names begin with _ hold what several figures
share.
"""
