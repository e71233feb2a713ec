"""A student as a force field.

predict.py       energy to forces, stress, Hessian products
checkpoint.py    students and states as safetensors
calculator.py    a student in ASE
verlet.py        neighbour lists with a skin
compiler.py      where torch's compiler works, one build at a time
engines/         a student where people simulate
domain.py        how far an atom's surroundings are from the training set
student_teacher.py    a student as a teacher
"""
