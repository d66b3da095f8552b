"""A sweep over recipes on one's own corpus: what is tried, how, and the winner as an entry of `cells`."""
