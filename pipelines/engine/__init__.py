"""Run a plan on local worker processes or on a Beam runner, restart workers that crash, and test a runner."""
