"""The page of claims: records of studies and measurements, a card and figures for each claim, and their index."""
