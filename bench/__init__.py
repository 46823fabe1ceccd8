"""Side-by-side measurements, one command each; both sides in one run on one machine, so the ratio counts."""
