"""GRU4Rec's training by automatic differentiation in float64: what the fast one must equal."""

import torch
from torch.nn.functional import elu as bend


class Reference:
    """Shares the fast trainer's first weights, and is told its negatives and dropout masks."""

    def __init__(self, trainer, *, counts):
        self.config = trainer.config
        self.counts = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
        weights = {**trainer.network.dense(), **trainer.network.tables}
        self.weights = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for name, array in weights.items()
        }
        self.squares = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.velocity = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.hidden = [
            torch.zeros(self.config.batch_size, units, dtype=torch.float64)
            for units in self.config.units
        ]
        self.gradients = {}

    def step(self, step, *, negatives, masks):
        """One step; the loss summed over the lanes."""
        lanes, fresh = torch.from_numpy(step.lanes), torch.from_numpy(step.fresh)
        inputs = torch.from_numpy(step.inputs)
        candidates = torch.cat([torch.from_numpy(step.targets), torch.from_numpy(negatives)])
        masks = [torch.tensor(mask, dtype=torch.float64) for mask in masks]
        table = self.weights["items" if self.config.input == "tied" else "inputs"]
        x = table[inputs] * masks[0]
        for depth, mask in enumerate(masks[1:]):
            before = self.hidden[depth][lanes]
            before[fresh] = 0
            x = self.cell(x, before, depth) * mask
            self.hidden[depth][lanes] = x.detach()
        scores = x @ self.weights["items"][candidates].T + self.weights["biases"][candidates].T
        loss = self.loss(scores, candidates)
        found = torch.autograd.grad(loss / self.config.batch_size, list(self.weights.values()))
        self.gradients = dict(zip(self.weights, found, strict=True))
        self.move({"items": torch.cat([candidates, inputs]), "biases": candidates}, inputs)
        return loss.item()

    def cell(self, x, hidden, depth):
        """GRU cell, after the model's docstring."""
        w, u, b, c = (self.weights.get(f"{name}{depth}") for name in "wubc")
        from_input = (x if w is None else x @ w.T) + b
        input_r, input_z, input_n = from_input.chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = (hidden @ u.T + c).chunk(3, dim=1)
        r, z = torch.sigmoid(input_r + hidden_r), torch.sigmoid(input_z + hidden_z)
        return (1 - z) * torch.tanh(input_n + r * hidden_n) + z * hidden

    def loss(self, scores, candidates):
        """Cross-entropy with logQ correction, or BPR-max with score regularisation."""
        config = self.config
        if config.loss == "cross_entropy":
            power = torch.full(candidates.shape, config.sample_alpha, dtype=torch.float64)
            power[: len(scores)] = 1
            scores = scores - config.logq * power * torch.log(self.counts[candidates])
            return -torch.log_softmax(scores, dim=1).diagonal().sum()
        if config.elu > 0:
            scores = bend(scores, config.elu)
        own = torch.eye(*scores.shape, dtype=torch.bool)
        s = torch.softmax(scores.masked_fill(own, float("-inf")), dim=1)
        won = (s * torch.sigmoid(scores.diagonal()[:, None] - scores)).sum(dim=1)
        return (-torch.log(won) + config.regularization * (s * scores**2).sum(dim=1)).sum()

    @torch.no_grad()
    def move(self, touched, inputs):
        """Adagrad with momentum; the rows of a table that the step did not name stay."""
        if self.config.input != "tied":
            touched = {name: rows[: len(rows) - len(inputs)] for name, rows in touched.items()}
            touched = {**touched, "biases": touched["items"], "inputs": inputs}
        for name, weight in self.weights.items():
            rows = touched[name].unique() if name in touched else slice(None)
            gradient = self.gradients[name][rows]
            self.squares[name][rows] += gradient**2
            self.velocity[name][rows] = (
                self.config.momentum * self.velocity[name][rows]
                - self.config.learning_rate * gradient / (self.squares[name][rows] + 1e-6).sqrt()
            )
            weight[rows] += self.velocity[name][rows]
