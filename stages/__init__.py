"""One thin command per stage: read the inputs, call one library function, publish, print."""
