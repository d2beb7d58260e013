"""The file that fits a budget: converted, loaded, measured, and backed off to more bits where it lost too much."""
