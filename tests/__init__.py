from pipeline.runtime.settings import compute_the_same_everywhere

# Before torch and NumPy are imported, as stages do.
compute_the_same_everywhere()
