"""The legs of a run, one file each. The command line and the Python API are two faces of these functions.

Nothing is gathered here: a leg's function has the name of its file (`niwaki.workflow.train.train`), and a
package cannot keep both under one name.
"""
