"""The commands of `rnnlm`, each in the module named as the room that does its work, which it imports when it runs."""
