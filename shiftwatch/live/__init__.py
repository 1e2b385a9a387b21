"""Live: runs in a browser and in the terminal while trainings write them.

It reads run folders, in a process of its own; a training knows nothing of it.
"""
