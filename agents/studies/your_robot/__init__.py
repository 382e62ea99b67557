"""Somebody else's robot: panda-gym by pictures, from recording to a policy that was trained in the dream."""
