// pair_style hdistill: a student's .pt2 in LAMMPS, built as a plugin against the package's own headers and libtorch.
//
//   pair_style  hdistill
//   pair_coeff  * * student.pt2 Sr Ti O      an element for each atom type
//
// On one MPI rank ghost atoms stand for the atoms they are images of, so any student runs. On several ranks an atom's energy may
// depend on atoms within the cutoff alone (strictly local students). Of a ghost atom such a student then needs its element and no
// energy: one row for each atom type stands for all of them, and what pulls at a ghost goes back to its owner, edge by edge.

#include <algorithm>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/types.h>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"

using namespace LAMMPS_NS;

namespace {

const char *const SYMBOLS[] = {
    "", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr",
    "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd",
    "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg",
    "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm",
    "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};

class PairHdistill : public Pair {
 public:
  explicit PairHdistill(LAMMPS *lmp) : Pair(lmp) {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
  }

  ~PairHdistill() override {
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }

  void settings(int narg, char **) override {
    if (narg != 0) error->all(FLERR, "pair_style hdistill takes no arguments");
  }

  void coeff(int narg, char **arg) override {
    const int n = atom->ntypes;
    if (narg != 3 + n)
      error->all(FLERR, "pair_coeff of hdistill: * * student.pt2 and an element for each of the {} atom types", n);
    if (strcmp(update->unit_style, "metal") != 0) error->all(FLERR, "pair_style hdistill needs `units metal`");
    if (!allocated) {
      allocated = 1;
      memory->create(setflag, n + 1, n + 1, "pair:setflag");
      memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    }
    try {
      student = std::make_unique<torch::inductor::AOTIModelPackageLoader>(arg[2]);
      const auto metadata = student->get_metadata();
      cutoff = std::stod(metadata.at("hdistill_cutoff"));
      strictly_local = metadata.at("hdistill_strictly_local") == "1";
      conservative = metadata.at("hdistill_conservative") == "1";
      std::istringstream table(metadata.at("hdistill_references"));
      std::istringstream outputs(metadata.at("hdistill_outputs"));
      pull_at = -1;
      std::string name;
      for (int place = 0; outputs >> name; place++)
        if (name == "pull") pull_at = place;
      references.clear();
      for (int z; table >> z;) table >> references[z];
    } catch (std::exception &e) {
      error->all(FLERR, "{} could not be read as a student's .pt2: {}", arg[2], e.what());
    }
    number.assign(n + 1, 0);
    for (int type = 1; type <= n; type++) {
      const auto place = std::find(std::begin(SYMBOLS) + 1, std::end(SYMBOLS), std::string(arg[2 + type]));
      number[type] = place == std::end(SYMBOLS) ? 0 : static_cast<int>(place - std::begin(SYMBOLS));
      if (!references.count(number[type]))
        error->all(FLERR, "this student was not trained on {} (atom type {})", arg[2 + type], type);
    }
    for (int i = 1; i <= n; i++)
      for (int j = i; j <= n; j++) setflag[i][j] = 1;
  }

  void init_style() override {
    if (force->newton_pair == 0) error->all(FLERR, "pair_style hdistill needs `newton on`");
    if (atom->tag_enable == 0) error->all(FLERR, "pair_style hdistill needs atom IDs");
    if (comm->nprocs > 1 && (!strictly_local || pull_at < 0))
      error->all(FLERR, "this student passes messages between atoms and runs on one MPI rank; a `moment` student runs on many");
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  double init_one(int, int) override { return cutoff; }

  void compute(int eflag, int vflag) override {
    ev_init(eflag, vflag);
    if (vflag_atom) error->all(FLERR, "pair_style hdistill has no virial of each atom");
    if (vflag_global && !conservative) error->all(FLERR, "a student with direct forces has no virial");
    double **x = atom->x, **f = atom->f;
    const bool images = comm->nprocs == 1;  // ghosts are images of our own atoms
    const int nlocal = atom->nlocal, n = images ? nlocal : nlocal + atom->ntypes;
    if (nlocal == 0) return;
    std::unordered_map<tagint, int> owner;
    if (images)
      for (int i = 0; i < nlocal; i++) owner[atom->tag[i]] = i;

    centre.clear(); neighbour.clear(); partner.clear(); vectors.clear();
    for (int ii = 0; ii < list->inum; ii++) {
      const int i = list->ilist[ii];
      for (int jj = 0; jj < list->numneigh[i]; jj++) {
        const int j = list->firstneigh[i][jj] & NEIGHMASK;
        const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
        if (dx * dx + dy * dy + dz * dz >= cutoff * cutoff) continue;
        centre.push_back(i);
        neighbour.push_back(images ? owner.at(atom->tag[j]) : (j < nlocal ? j : nlocal + atom->type[j] - 1));
        partner.push_back(j);
        vectors.insert(vectors.end(), {dx, dy, dz});
      }
    }
    numbers.resize(n);
    for (int i = 0; i < nlocal; i++) numbers[i] = number[atom->type[i]];
    for (int type = 1; nlocal + type <= n; type++) numbers[nlocal + type - 1] = number[type];

    const auto integers = torch::TensorOptions().dtype(torch::kInt64);
    const auto reals = torch::TensorOptions().dtype(torch::kFloat64);
    const int64_t n_edges = static_cast<int64_t>(centre.size());
    auto edges = torch::empty({2, n_edges}, integers);
    std::copy(centre.begin(), centre.end(), edges.data_ptr<int64_t>());
    std::copy(neighbour.begin(), neighbour.end(), edges.data_ptr<int64_t>() + n_edges);
    const auto outputs = student->run({
        torch::from_blob(numbers.data(), {n}, integers), edges,
        torch::from_blob(vectors.data(), {n_edges, 3}, reals), torch::zeros({n}, integers), torch::ones({1}, reals)});

    const double *e = outputs[0].data_ptr<double>(), *g = outputs[1].data_ptr<double>();
    if (images) {
      for (int i = 0; i < nlocal; i++)
        for (int k = 0; k < 3; k++) f[i][k] += g[3 * i + k];
    } else {
      const double *pull = outputs[pull_at].data_ptr<double>();
      for (int64_t edge = 0; edge < n_edges; edge++)
        for (int k = 0; k < 3; k++) {
          f[centre[edge]][k] += pull[3 * edge + k];
          f[partner[edge]][k] -= pull[3 * edge + k];
        }
    }
    if (eflag_either)
      for (int i = 0; i < nlocal; i++) {
        const double energy = e[i] + references.at(number[atom->type[i]]);
        if (eflag_global) eng_vdwl += energy;
        if (eflag_atom) eatom[i] += energy;
      }
    if (vflag_global) {  // of volume 1 the stress is dE/dstrain; LAMMPS' virial is its negative
      const double *s = outputs[2].data_ptr<double>();
      const int voigt[6] = {0, 4, 8, 1, 2, 5};
      for (int k = 0; k < 6; k++) virial[k] -= s[voigt[k]];
    }
  }

 private:
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> student;
  double cutoff = 0;
  bool strictly_local = false, conservative = true;
  std::unordered_map<int, double> references;  // eV, by atomic number
  std::vector<int> number;                     // by atom type
  int pull_at = -1;  // which output; a .pt2 of another hdistill may have none
  std::vector<int64_t> centre, neighbour, partner, numbers;
  std::vector<double> vectors;
};

Pair *create(LAMMPS *lmp) { return new PairHdistill(lmp); }

// As in LAMMPS' lammpsplugin.h, which its package leaves out.
struct Plugin {
  const char *version, *style, *name, *info, *author;
  union {
    void *(*v1)(LAMMPS *);
    void *(*v2)(LAMMPS *, int, char **);
  } creator;
  void *handle;
};

}  // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *registration) {
  Plugin plugin;
  plugin.version = static_cast<LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "hdistill";
  plugin.info = "students of hdistill";
  plugin.author = "The hdistill developers";
  plugin.creator.v1 = reinterpret_cast<void *(*)(LAMMPS *)>(&create);
  plugin.handle = handle;
  reinterpret_cast<void (*)(Plugin *, void *)>(registration)(&plugin, lmp);
}
