"""Where recipes start (scan, pair, seeds) and how their audio is opened, also from stores and crashing codecs."""
