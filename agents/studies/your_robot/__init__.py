"""The pipeline on another robot: panda-gym from pictures, from recording to a policy trained in the dream."""
