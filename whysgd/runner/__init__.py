"""`python -m whysgd run`: the workflow's jobs without Snakemake, as many as fit into the time there is.

`plan` says which jobs there are and what is there of each, `pool` runs them side by side, `command` is what users see.
Nothing here imports torch: the jobs, processes of their own, do.
"""
