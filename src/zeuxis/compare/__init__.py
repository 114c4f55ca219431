"""Several generators on one data set: judged in the same way, drawn side by side, on one page.

`entries` says what is compared, `gather` makes it from runs, model folders and foreign pictures, `verdict` puts the
numbers into words, `page` draws them.
"""
