"""Where jobs run: embedded Ray on a laptop, or a cluster that others administer."""
