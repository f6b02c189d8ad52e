"""The best attention network for a table of categorical sequences, with a proof (docs/classifier.md).

`table` reads rows; `costs` turns labels and weights into integers; `contexts` and `heads` are the class CAT(L); `kernels` and
`search` find its optimum; `network` is the integer transformer that ships; `alternatives` lists every network as good;
`certificate`, with `exhaustive.c`, checks the optimum without the search; `estimator` is what a user meets.
"""
