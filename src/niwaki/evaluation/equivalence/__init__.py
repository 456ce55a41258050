"""Non-inferiority tests of samples before and after, against margins calibrated on planted damage."""
