"""What each image of a split contributes to its metrics: kept, resampled, added up."""
