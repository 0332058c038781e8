"""How the work goes: datasets, what is asked, who answers."""
