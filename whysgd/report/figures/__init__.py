"""The figures of tables, one file each: a function of the file's name, what it needs, its caption and its size.

    NEEDS = ("histories",)
    CAPTION = "Loss of every row over epochs."

    def curves(table, frames, setting):
        figure, axis = plt.subplots(figsize=(4, 4))
        ...
        return figure

`table` is laid out, as `whysgd.study.papers.tables_at` has it, with `colours`, of its methods. `frames` has the runs
of the table's rows under "runs", and a frame for each of `NEEDS`, whose names are those of `whysgd.study.figures`.
`setting` says on what was measured. NEEDS and CAPTION are literals: the workflow reads them without importing the
file. Files whose names begin with _ hold what several figures share.
"""
