//! The one list of methods.

use crate::cv::{self, Chosen};
use crate::deep::TowerConfig;
use crate::deep::acmr::AcmrConfig;
use crate::deep::brivl::BrivlConfig;
use crate::deep::dcca::DccaConfig;
use crate::deep::dccae::DccaeConfig;
use crate::deep::dcmh::DcmhConfig;
use crate::deep::ddh::DdhConfig;
use crate::deep::dgcca::DgccaConfig;
use crate::deep::djsrh::DjsrhConfig;
use crate::deep::dscmr::DscmrConfig;
use crate::deep::generative::cada_vae::CadaVaeConfig;
use crate::deep::generative::jmvae::JmvaeConfig;
use crate::deep::generative::mmvae::MmvaeConfig;
use crate::deep::generative::mvae::MvaeConfig;
use crate::deep::infonce::{InfoNce, InfoNceConfig};
use crate::deep::label_gcn::LabelGcnConfig;
use crate::deep::logit_adjusted::LogitAdjustedConfig;
use crate::deep::npair::NPairConfig;
use crate::deep::sigmoid::SigmoidConfig;
use crate::deep::ssah::SsahConfig;
use crate::deep::triplet::{Negatives, Triplet, TripletConfig};
use crate::deep::ucch::UcchConfig;
use crate::fit::{FitError, Pairs, Run};
use crate::moments::Moments;
use crate::pipeline::PipelineSpace;
use crate::reduced::{self, Fitted, Linear};
use crate::{
    Cca3vConfig, CcaConfig, ClusterCcaConfig, CmfhConfig, CvhConfig, GccaConfig, GmldaConfig, GmmfaConfig, HadamardConfig,
    JfsslConfig, KccaConfig, LabelRidgeConfig, LcfsConfig, MccaConfig, MvdaConfig, PlsConfig, ProcrustesConfig, RidgeConfig,
    ScmBits, ScmConfig, ScmHashConfig, SephConfig, SmConfig, SshConfig,
};
use crate::{CmsshConfig, DchConfig, FshConfig, ImhConfig};

/// A method with its hyper-parameters. The only list of methods.
#[derive(Clone, Debug, PartialEq)]
pub enum MethodConfig {
    /// Canonical correlation analysis of two views.
    Cca(CcaConfig),
    /// Multi-view canonical correlation analysis of two or more views.
    Mcca(MccaConfig),
    /// Partial least squares of two views.
    Pls(PlsConfig),
    /// Ridge regression from one view to the other.
    Ridge(RidgeConfig),
    /// Collective matrix factorisation hashing.
    Cmfh(CmfhConfig),
    /// Cross-view hashing.
    Cvh(CvhConfig),
    /// Semi-supervised hashing.
    Ssh(SshConfig),
    /// Hashing to a Hadamard codebook.
    Hadamard(HadamardConfig),
    /// Semantics-preserving hashing.
    Seph(SephConfig),
    /// Hashing by semantic correlation maximisation.
    ScmHash(ScmHashConfig),
    /// MAXVAR generalised canonical correlation analysis of two or more views.
    Gcca(GccaConfig),
    /// Kernel canonical correlation analysis.
    Kcca(KccaConfig),
    /// Orthogonal Procrustes.
    Procrustes(ProcrustesConfig),
    /// Canonical correlation analysis with the labels as third view.
    Cca3v(Cca3vConfig),
    /// Cluster canonical correlation analysis.
    ClusterCca(ClusterCcaConfig),
    /// Ridge regression of each view to the labels.
    LabelRidge(LabelRidgeConfig),
    /// Generalised multiview linear discriminant analysis.
    Gmlda(GmldaConfig),
    /// Generalised multiview marginal Fisher analysis.
    Gmmfa(GmmfaConfig),
    /// Multi-view discriminant analysis.
    Mvda(MvdaConfig),
    /// Cross-modality similarity-sensitive hashing, by classes or by pairs.
    Cmssh(CmsshConfig),
    /// Discrete cross-modal hashing.
    Dch(DchConfig),
    /// Fusion similarity hashing.
    Fsh(FshConfig),
    /// Inter-media hashing.
    Imh(ImhConfig),
    /// Semantic matching.
    Sm(SmConfig),
    /// Semantic correlation matching.
    Scm(ScmConfig),
    /// Joint feature selection and subspace learning.
    Jfssl(JfsslConfig),
    /// Learning coupled feature spaces.
    Lcfs(LcfsConfig),
    /// Contrastive learning by classification, of pairs or by classes.
    InfoNce(InfoNceConfig),
    /// Contrastive learning pair by pair.
    Sigmoid(SigmoidConfig),
    /// Metric learning by triplets.
    Triplet(TripletConfig),
    /// Metric learning by N-pairs.
    NPair(NPairConfig),
    /// Contrastive learning against keys that are remembered.
    Brivl(BrivlConfig),
    /// Deep canonical correlation analysis.
    Dcca(DccaConfig),
    /// Deep canonically correlated autoencoders.
    Dccae(DccaeConfig),
    /// Joint multimodal autoencoders.
    Jmvae(JmvaeConfig),
    /// Multimodal autoencoders by products of experts.
    Mvae(MvaeConfig),
    /// Multimodal autoencoders by mixtures of experts.
    Mmvae(MmvaeConfig),
    /// Cross- and distribution-aligned autoencoders.
    CadaVae(CadaVaeConfig),
    /// Deep generalised canonical correlation analysis.
    Dgcca(DgccaConfig),
    /// Deep supervised cross-modal retrieval.
    Dscmr(DscmrConfig),
    /// Adversarial cross-modal retrieval.
    Acmr(AcmrConfig),
    /// A classifier out of a graph of classes.
    LabelGcn(LabelGcnConfig),
    /// A shared classifier for classes of uneven sizes.
    LogitAdjusted(LogitAdjustedConfig),
    /// Deep cross-modal hashing by classes.
    Dcmh(DcmhConfig),
    /// Deep discriminative hashing.
    Ddh(DdhConfig),
    /// Self-supervised adversarial hashing.
    Ssah(SsahConfig),
    /// Deep joint-semantics reconstructing hashing.
    Djsrh(DjsrhConfig),
    /// Unsupervised contrastive cross-modal hashing.
    Ucch(UcchConfig),
}

impl MethodConfig {
    /// The methods' names. (ConSE learns from no pairs, so it is not among them: [`crate::conse`].)
    pub fn names() -> &'static [&'static str] {
        &[
            "cca",
            "mcca",
            "pls",
            "ridge",
            "cmfh",
            "cvh",
            "ssh",
            "hadamard",
            "seph",
            "scm-seq",
            "scm-orth",
            "gcca",
            "kcca",
            "procrustes",
            "cca-3v",
            "cluster-cca",
            "label-ridge",
            "gmlda",
            "gmmfa",
            "mvda",
            "sm",
            "scm",
            "jfssl",
            "lcfs",
            "cmssh",
            "cmssh-pairs",
            "dch",
            "fsh",
            "imh",
            "infonce",
            "unicl",
            "siglip",
            "vse",
            "vse++",
            "triplet",
            "npair",
            "brivl",
            "dcca",
            "dccae",
            "jmvae",
            "mvae",
            "mmvae",
            "cada-vae",
            "dscmr",
            "acmr",
            "label-gcn",
            "dgcca",
            "logit-adjusted",
            "dcmh",
            "ddh",
            "ssah",
            "djsrh",
            "ucch",
        ]
    }

    /// The method of that name with its default hyper-parameters.
    ///
    /// # Errors
    /// [`FitError::UnknownMethod`].
    pub fn from_name(name: &str) -> Result<Self, FitError> {
        match name {
            "cca" => Ok(MethodConfig::Cca(CcaConfig::default())),
            "mcca" => Ok(MethodConfig::Mcca(MccaConfig::default())),
            "pls" => Ok(MethodConfig::Pls(PlsConfig::default())),
            "ridge" => Ok(MethodConfig::Ridge(RidgeConfig::default())),
            "cmfh" => Ok(MethodConfig::Cmfh(CmfhConfig::default())),
            "cvh" => Ok(MethodConfig::Cvh(CvhConfig::default())),
            "ssh" => Ok(MethodConfig::Ssh(SshConfig::default())),
            "hadamard" => Ok(MethodConfig::Hadamard(HadamardConfig::default())),
            "seph" => Ok(MethodConfig::Seph(SephConfig::default())),
            "scm-seq" => Ok(MethodConfig::ScmHash(ScmHashConfig::default())),
            "scm-orth" => Ok(MethodConfig::ScmHash(ScmHashConfig { order: ScmBits::Orthogonal, ..ScmHashConfig::default() })),
            "gcca" => Ok(MethodConfig::Gcca(GccaConfig::default())),
            "kcca" => Ok(MethodConfig::Kcca(KccaConfig::default())),
            "procrustes" => Ok(MethodConfig::Procrustes(ProcrustesConfig::default())),
            "cca-3v" => Ok(MethodConfig::Cca3v(Cca3vConfig::default())),
            "cluster-cca" => Ok(MethodConfig::ClusterCca(ClusterCcaConfig::default())),
            "label-ridge" => Ok(MethodConfig::LabelRidge(LabelRidgeConfig::default())),
            "gmlda" => Ok(MethodConfig::Gmlda(GmldaConfig::default())),
            "gmmfa" => Ok(MethodConfig::Gmmfa(GmmfaConfig::default())),
            "mvda" => Ok(MethodConfig::Mvda(MvdaConfig::default())),
            "sm" => Ok(MethodConfig::Sm(SmConfig::default())),
            "scm" => Ok(MethodConfig::Scm(ScmConfig::default())),
            "jfssl" => Ok(MethodConfig::Jfssl(JfsslConfig::default())),
            "lcfs" => Ok(MethodConfig::Lcfs(LcfsConfig::default())),
            "cmssh" => Ok(MethodConfig::Cmssh(CmsshConfig::default())),
            "cmssh-pairs" => Ok(MethodConfig::Cmssh(CmsshConfig { by_class: false, ..CmsshConfig::default() })),
            "dch" => Ok(MethodConfig::Dch(DchConfig::default())),
            "fsh" => Ok(MethodConfig::Fsh(FshConfig::default())),
            "imh" => Ok(MethodConfig::Imh(ImhConfig::default())),
            "infonce" => Ok(MethodConfig::InfoNce(InfoNceConfig::default())),
            "unicl" => Ok(MethodConfig::InfoNce(InfoNceConfig {
                objective: InfoNce { by_class: true, ..InfoNce::default() },
                ..InfoNceConfig::default()
            })),
            "siglip" => Ok(MethodConfig::Sigmoid(SigmoidConfig::default())),
            "vse" => Ok(MethodConfig::Triplet(TripletConfig::default())),
            "vse++" => Ok(MethodConfig::Triplet(triplet(Negatives::Hardest))),
            "triplet" => Ok(MethodConfig::Triplet(triplet(Negatives::SemiHard))),
            "npair" => Ok(MethodConfig::NPair(NPairConfig::default())),
            "brivl" => Ok(MethodConfig::Brivl(BrivlConfig::default())),
            "dcca" => Ok(MethodConfig::Dcca(DccaConfig::default())),
            "dccae" => Ok(MethodConfig::Dccae(DccaeConfig::default())),
            "jmvae" => Ok(MethodConfig::Jmvae(JmvaeConfig::default())),
            "mvae" => Ok(MethodConfig::Mvae(MvaeConfig::default())),
            "mmvae" => Ok(MethodConfig::Mmvae(MmvaeConfig::default())),
            "cada-vae" => Ok(MethodConfig::CadaVae(CadaVaeConfig::default())),
            "dscmr" => Ok(MethodConfig::Dscmr(DscmrConfig::default())),
            "acmr" => Ok(MethodConfig::Acmr(AcmrConfig::default())),
            "label-gcn" => Ok(MethodConfig::LabelGcn(LabelGcnConfig::default())),
            "dgcca" => Ok(MethodConfig::Dgcca(DgccaConfig::default())),
            "logit-adjusted" => Ok(MethodConfig::LogitAdjusted(LogitAdjustedConfig::default())),
            "dcmh" => Ok(MethodConfig::Dcmh(DcmhConfig::default())),
            "ddh" => Ok(MethodConfig::Ddh(DdhConfig::default())),
            "ssah" => Ok(MethodConfig::Ssah(SsahConfig::default())),
            "djsrh" => Ok(MethodConfig::Djsrh(DjsrhConfig::default())),
            "ucch" => Ok(MethodConfig::Ucch(UcchConfig::default())),
            _ => Err(FitError::UnknownMethod { got: name.to_owned() }),
        }
    }

    /// How many views it can take.
    pub fn n_views(&self) -> std::ops::RangeInclusive<usize> {
        self.linear().n_views()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.linear().name()
    }

    /// Its hyper-parameters by name, for reports.
    pub fn parameters(&self) -> Vec<(String, String)> {
        self.linear().parameters()
    }

    /// Whether it learns from classes, so that [`Pairs::labels`] must be there.
    pub fn needs_labels(&self) -> bool {
        self.linear().needs_labels()
    }

    /// Fits a space with these hyper-parameters.
    ///
    /// # Errors
    /// [`FitError`]; the method's file says which and when.
    pub fn fit(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        Ok(self.fit_with_codes(pairs, run)?.space)
    }

    /// The same, with the codes that some hashing methods learn for the pairs themselves.
    ///
    /// # Errors
    /// Those of [`MethodConfig::fit`].
    pub fn fit_with_codes(&self, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<Fitted, FitError> {
        reduced::fit(self.linear(), pairs, run)
    }

    /// Sums of nothing yet, for rows of so many columns in each view and, for a method that learns from classes, so many of these.
    ///
    /// # Errors
    /// [`FitError::NeedsRows`] for a method that needs the rows themselves; [`FitError::Views`], [`FitError::Config`].
    pub fn moments(&self, dims: &[usize], n_classes: Option<usize>) -> Result<Moments, FitError> {
        reduced::moments(self.linear(), dims, n_classes)
    }

    /// Fits a space on sums that [`MethodConfig::moments`] began: the same space as on all rows, up to rounding.
    ///
    /// # Errors
    /// [`FitError::NeedsRows`]; [`FitError::Preprocessed`] for sums of rows that were prepared otherwise; [`FitError::TooFewRows`],
    /// [`FitError::NoLabels`], [`FitError::Constant`], [`FitError::Unrelated`], [`FitError::Numeric`], [`FitError::Cancelled`].
    pub fn fit_moments(&self, moments: &Moments, run: &Run<'_>) -> Result<PipelineSpace, FitError> {
        reduced::fit_moments(self.linear(), moments, run)
    }

    /// Chooses the method's hyper-parameters by `folds`-fold cross-validation on the pairs given (groups stay whole), and says
    /// how well the choice did on the rows left out. Fit [`Chosen::config`] on all pairs afterwards.
    ///
    /// # Errors
    /// [`FitError`]; [`FitError::TooFewRows`] for fewer groups than folds.
    pub fn auto(name: &str, pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
        cv::search(Self::from_name(name)?, pairs, folds, run)
    }

    /// The same from hyper-parameters of one's own: those the method tries are changed where that helps, the others stay.
    ///
    /// # Errors
    /// Those of [`MethodConfig::auto`].
    pub fn auto_from(self, pairs: &Pairs<'_>, folds: usize, run: &Run<'_>) -> Result<Chosen, FitError> {
        cv::search(self, pairs, folds, run)
    }

    /// The method with so many coordinates at most, or bits; methods whose coordinates are given (classes, the other view's columns) stay
    /// as they are.
    #[must_use]
    pub fn with_components(mut self, n: usize) -> Self {
        match &mut self {
            MethodConfig::Cca(config) => config.max_components = n,
            MethodConfig::Mcca(config) => config.max_components = n,
            MethodConfig::Pls(config) => config.max_components = n,
            MethodConfig::Gcca(config) => config.max_components = n,
            MethodConfig::Kcca(config) => config.max_components = n,
            MethodConfig::Procrustes(config) => config.max_components = n,
            MethodConfig::Cca3v(config) => config.max_components = n,
            MethodConfig::ClusterCca(config) => config.max_components = n,
            MethodConfig::Gmlda(config) => config.max_components = n,
            MethodConfig::Gmmfa(config) => config.max_components = n,
            MethodConfig::Mvda(config) => config.max_components = n,
            MethodConfig::Scm(config) => config.max_components = n,
            MethodConfig::ScmHash(config) => config.bits = n,
            MethodConfig::Cmfh(config) => config.bits = n,
            MethodConfig::Cvh(config) => config.bits = n,
            MethodConfig::Ssh(config) => config.bits = n,
            MethodConfig::Hadamard(config) => config.bits = n,
            MethodConfig::Seph(config) => config.bits = n,
            MethodConfig::Cmssh(config) => config.bits = n,
            MethodConfig::Dch(config) => config.bits = n,
            MethodConfig::Fsh(config) => config.bits = n,
            MethodConfig::Imh(config) => config.bits = n,
            MethodConfig::Ridge(_)
            | MethodConfig::LabelRidge(_)
            | MethodConfig::Sm(_)
            | MethodConfig::Jfssl(_)
            | MethodConfig::Lcfs(_) => {}
            MethodConfig::InfoNce(_)
            | MethodConfig::Sigmoid(_)
            | MethodConfig::Triplet(_)
            | MethodConfig::NPair(_)
            | MethodConfig::Brivl(_)
            | MethodConfig::Dcca(_)
            | MethodConfig::Dccae(_)
            | MethodConfig::Jmvae(_)
            | MethodConfig::Mvae(_)
            | MethodConfig::Mmvae(_)
            | MethodConfig::CadaVae(_)
            | MethodConfig::Dscmr(_)
            | MethodConfig::Acmr(_)
            | MethodConfig::LabelGcn(_)
            | MethodConfig::Dgcca(_)
            | MethodConfig::LogitAdjusted(_)
            | MethodConfig::Dcmh(_)
            | MethodConfig::Ddh(_)
            | MethodConfig::Ssah(_)
            | MethodConfig::Djsrh(_)
            | MethodConfig::Ucch(_) => {
                if let Some(towers) = self.towers_mut() {
                    towers.dim = n;
                }
            }
        }
        self
    }

    /// The method on the preprocessing, axes, ridges and weights of a linear one, where its towers begin as that ([`MethodConfig::auto`] chooses them so
    /// too, before anything else); a method without towers stays as it is.
    #[must_use]
    pub fn beginning_as(mut self, linear: &CcaConfig) -> Self {
        if let Some(towers) = self.towers_mut() {
            towers.begin_as(linear);
        }
        self
    }

    /// Whether it trains towers, so that [`MethodConfig::beginning_as`] says something of it.
    pub fn is_learned(&self) -> bool {
        self.clone().towers_mut().is_some()
    }

    /// The towers of a method that has some.
    pub(crate) fn towers_mut(&mut self) -> Option<&mut TowerConfig> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other method has none")]
        match self {
            MethodConfig::InfoNce(config) => Some(&mut config.towers),
            MethodConfig::Sigmoid(config) => Some(&mut config.towers),
            MethodConfig::Triplet(config) => Some(&mut config.towers),
            MethodConfig::NPair(config) => Some(&mut config.towers),
            MethodConfig::Brivl(config) => Some(&mut config.towers),
            MethodConfig::Dcca(config) => Some(&mut config.towers),
            MethodConfig::Dccae(config) => Some(&mut config.towers),
            MethodConfig::Jmvae(config) => Some(&mut config.towers),
            MethodConfig::Mvae(config) => Some(&mut config.towers),
            MethodConfig::Mmvae(config) => Some(&mut config.towers),
            MethodConfig::CadaVae(config) => Some(&mut config.towers),
            MethodConfig::Dscmr(config) => Some(&mut config.towers),
            MethodConfig::Acmr(config) => Some(&mut config.towers),
            MethodConfig::LabelGcn(config) => Some(&mut config.towers),
            MethodConfig::Dgcca(config) => Some(&mut config.towers),
            MethodConfig::LogitAdjusted(config) => Some(&mut config.towers),
            MethodConfig::Dcmh(config) => Some(&mut config.towers),
            MethodConfig::Ddh(config) => Some(&mut config.towers),
            MethodConfig::Ssah(config) => Some(&mut config.towers),
            MethodConfig::Djsrh(config) => Some(&mut config.towers),
            MethodConfig::Ucch(config) => Some(&mut config.towers),
            _ => None,
        }
    }

    pub(crate) fn linear(&self) -> &dyn Linear {
        match self {
            MethodConfig::Cca(config) => config,
            MethodConfig::Mcca(config) => config,
            MethodConfig::Pls(config) => config,
            MethodConfig::Ridge(config) => config,
            MethodConfig::Cmfh(config) => config,
            MethodConfig::Cvh(config) => config,
            MethodConfig::Ssh(config) => config,
            MethodConfig::Hadamard(config) => config,
            MethodConfig::Seph(config) => config,
            MethodConfig::ScmHash(config) => config,
            MethodConfig::Gcca(config) => config,
            MethodConfig::Kcca(config) => config,
            MethodConfig::Procrustes(config) => config,
            MethodConfig::Cca3v(config) => config,
            MethodConfig::ClusterCca(config) => config,
            MethodConfig::LabelRidge(config) => config,
            MethodConfig::Gmlda(config) => config,
            MethodConfig::Gmmfa(config) => config,
            MethodConfig::Mvda(config) => config,
            MethodConfig::Cmssh(config) => config,
            MethodConfig::Dch(config) => config,
            MethodConfig::Fsh(config) => config,
            MethodConfig::Imh(config) => config,
            MethodConfig::Sm(config) => config,
            MethodConfig::Scm(config) => config,
            MethodConfig::Jfssl(config) => config,
            MethodConfig::Lcfs(config) => config,
            MethodConfig::InfoNce(config) => config,
            MethodConfig::Sigmoid(config) => config,
            MethodConfig::Triplet(config) => config,
            MethodConfig::NPair(config) => config,
            MethodConfig::Brivl(config) => config,
            MethodConfig::Dcca(config) => config,
            MethodConfig::Dccae(config) => config,
            MethodConfig::Jmvae(config) => config,
            MethodConfig::Mvae(config) => config,
            MethodConfig::Mmvae(config) => config,
            MethodConfig::CadaVae(config) => config,
            MethodConfig::Dscmr(config) => config,
            MethodConfig::Acmr(config) => config,
            MethodConfig::LabelGcn(config) => config,
            MethodConfig::Dgcca(config) => config,
            MethodConfig::LogitAdjusted(config) => config,
            MethodConfig::Dcmh(config) => config,
            MethodConfig::Ddh(config) => config,
            MethodConfig::Ssah(config) => config,
            MethodConfig::Djsrh(config) => config,
            MethodConfig::Ucch(config) => config,
        }
    }
}

fn triplet(negatives: Negatives) -> TripletConfig {
    TripletConfig { objective: Triplet { negatives, ..Triplet::default() }, ..TripletConfig::default() }
}
