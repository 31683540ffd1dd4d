"""Whole Raft members on simulated disks, a simulated network and simulated time, from one seed."""
