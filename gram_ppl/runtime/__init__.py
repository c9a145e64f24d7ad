"""What every layer stands on: precision, processes, compilation, clocks."""
