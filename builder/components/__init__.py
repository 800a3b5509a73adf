"""Layer 2: a locked recipe to a build plan, one module for each kind of component. Pure.

What a step runs is written out in the plan, with every option, so that the plan can be read, digested and compared.
"""
