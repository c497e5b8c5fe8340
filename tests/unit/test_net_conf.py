# Copyright: The weft.podnet materials
