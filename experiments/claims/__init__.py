"""Claims from the literature; each is a study whose test was declared before its runs."""
