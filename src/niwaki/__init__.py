"""niwaki trains generative models, measures quality and diversity apart, makes them small, and proves that nothing was lost."""

__version__ = "0.1.0"
