"""Line a wet recording up with its dry one."""
